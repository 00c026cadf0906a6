"""How far a model's words, and what it makes of sentences, hang on the groups of people that they name."""
