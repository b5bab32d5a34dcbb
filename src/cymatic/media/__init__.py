"""What people hear and see: sounds and their files."""
