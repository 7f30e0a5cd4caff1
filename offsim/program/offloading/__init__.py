"""What systems' pages share: hooks of the denoising loop, verbs that move weights, and launch lines of real systems."""
