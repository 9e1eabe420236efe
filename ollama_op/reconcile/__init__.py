"""One supervised task per object: it observes, decides, acts and reports."""
