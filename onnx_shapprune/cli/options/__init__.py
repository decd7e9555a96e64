"""Options that several commands share: every group hands its command one finished value, not a dozen names."""
