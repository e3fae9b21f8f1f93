/* logfmt: is what a daemon wrote one event a line, in the form that log collectors read? */
#pragma once

/* Every line is `ts=... level=... event=... key=value ...`: keys of a-z and _, values bare or in
 * quotes, printable ASCII, no stray quote. What sanitizers and check() say is none of it. */
#define assert_logfmt(text) assert_logfmt_at((text), __FILE__, __LINE__)
void assert_logfmt_at(const char *text, const char *file, int line);
