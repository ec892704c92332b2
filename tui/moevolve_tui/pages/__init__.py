"""The pages: what each screen and inspector shows, as rows."""
