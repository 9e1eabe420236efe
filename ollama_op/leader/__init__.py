"""Which of several replicas acts, and for how much longer it may begin something."""
