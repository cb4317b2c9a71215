"""One export command's run: what is made from what, stored results, calibration and publishing."""
