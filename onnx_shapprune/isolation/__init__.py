"""One child process per model: whatever a file does to it, the caller lives and says what happened."""
