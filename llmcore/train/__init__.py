"""One training loop for pre-training and fine-tuning alike, on DeepSpeed, without Ray."""
