"""What a search is made of: proposals, the drivers of its trials, their records, its schedulers and its budget."""
