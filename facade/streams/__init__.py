"""Streamed responses and subscriptions to new messages."""
