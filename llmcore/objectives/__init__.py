"""What a model learns to predict from packed rows."""
