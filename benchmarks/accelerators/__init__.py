"""What TPUs and GPUs would run: compiled for them without one."""
