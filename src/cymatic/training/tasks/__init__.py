"""What can be trained: one task a kind of objective, all in the one loop."""
