"""Rows on parameter servers, and the policies of their slots."""
