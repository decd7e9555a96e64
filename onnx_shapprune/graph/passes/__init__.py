"""What is done to the working copy, one step at a time: each says what holds before it and what holds after it."""
