"""The best policies for one scenario: what is searched, how, and what is said."""
