"""HTTP as pure functions: RFC 9110, 9111, 9211 and 9213 over frozen values, with `now` passed in."""
