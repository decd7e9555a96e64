"""Records as text for people and machines, and recovered triggers as pictures."""
