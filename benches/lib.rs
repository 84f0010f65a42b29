//! What `opensvc-actions` costs, side by side with a program that does the least possible.
