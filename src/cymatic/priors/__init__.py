"""Models of what is likely: from a condition to a mel, a latent or codes."""
