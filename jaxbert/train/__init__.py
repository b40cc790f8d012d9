"""Training: functions around the model, of which a forward pass knows nothing."""
