"""What authors do with trust policies before they merge: lint, mutate, compare, describe, write a first one.

Pure: texts and a World in, findings and words out. Files, git and the terminal belong to broker.cli and broker.sources.
"""
