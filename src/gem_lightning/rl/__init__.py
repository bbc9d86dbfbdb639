"""Reinforcement learning of a GEM whose reward is the claim score: rollouts, rewards, objectives and their data."""
