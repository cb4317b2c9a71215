"""What the figures of a profile are worth: noise, agreement of answers, the roofline, findings."""
