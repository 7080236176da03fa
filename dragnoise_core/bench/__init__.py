"""What `dragnoise bench` runs: methods side by side, the measures, the reports."""
