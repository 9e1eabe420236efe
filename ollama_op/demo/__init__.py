"""The demo: a story played on the sandbox, and the screen that shows it."""
