"""What a user calls: built parts, brought together."""
