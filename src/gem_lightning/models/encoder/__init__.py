"""ECG encoders: transformer, CoCa, masked autoencoder."""
