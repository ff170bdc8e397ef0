"""A broker to play with: a practice CI that signs GitHub-like tokens, a policy, and the story of one job.

Nothing here is reachable from `serve`. The practice CI signs whatever it is asked to: it is for loopback only.
"""
