"""Many runs compared: ablations and tables of papers."""
