"""What Django wants as a module of its own: the provider's URLs, and the claims its toolkit asks its validator for."""

from typing import Any

from django.contrib.auth import views
from django.urls import include, path
from oauth2_provider.oauth2_validators import OAuth2Validator

urlpatterns = [
    path("accounts/login/", views.LoginView.as_view()),
    path("", include("oauth2_provider.urls", namespace="oauth2_provider")),
]


class Claims(OAuth2Validator):  # type: ignore[misc]  # the toolkit has no types
    """The toolkit's own hook for claims, and its table of the scope that each one takes."""

    oidc_claim_scope = {**OAuth2Validator.oidc_claim_scope, "groups": "profile"}  # noqa: RUF012  as the toolkit has it

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        user = request.user
        return {
            "email": user.email,
            "email_verified": user.username != "eve",
            "groups": [group.name for group in user.groups.all()],
        }
