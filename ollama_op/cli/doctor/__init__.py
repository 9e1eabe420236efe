"""What keeps the operator from working: the checks, and the command that shows them."""
