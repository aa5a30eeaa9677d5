"""What a long run measured: samples, findings and plots."""
