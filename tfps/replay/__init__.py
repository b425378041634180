"""Replays what a server saw, and says where features or predictions are not the trainer's."""
