"""The one idea: every position along every axis has an id, and ops tie, move and pin ids."""
