"""The rules, pure: what is to be done for one object, and what its status says."""
