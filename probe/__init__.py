"""The probe: makes the exchanges that a coordinator asks for, and reports what it saw without judging it."""
