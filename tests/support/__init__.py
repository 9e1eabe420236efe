"""What the tests stand on, by what it stands for: a world in virtual time, or real parts."""
