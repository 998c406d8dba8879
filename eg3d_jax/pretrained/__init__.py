"""The embedded generator `heads128`; see MODEL_CARD.md."""
