/* terminal: what is done only when somebody looks: colours, progress, lines that fit the window;
 * and Ctrl-C, which ends things in order. Everything here is nothing when the stream is no
 * terminal. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { WINDOW_NONE = 0 };

int window_columns(FILE *to); /* WINDOW_NONE: it is no terminal */

enum color { COLOR_NONE, COLOR_BOLD, COLOR_RED, COLOR_GREEN, COLOR_YELLOW, COLOR_DIM };
/* What begins and ends a colour; "" without a terminal, or with NO_COLOR or TERM=dumb. */
const char *color_begin(FILE *to, enum color color);
const char *color_end(FILE *to);

/* Words (a tab is a blank that does not divide them), folded at the window (else at `otherwise`
 * columns, 0: not at all), every line but the first behind `indent` blanks; ends the line. `column`
 * is how far the first line is already. */
void text_fold(FILE *to, const char *text, int column, int indent, int otherwise);

/* How many characters a text shows. */
size_t text_width(const char *text);
/* The text in at most `width` characters, with "..." in the place of what was cut. */
void text_put(FILE *to, const char *text, size_t width);

/* ---- progress: one line on standard error, drawn over itself */

struct progress {
    const char *what; /* "copied" */
    int64_t total;    /* 0: not known */
    int64_t began_ms; /* monotonic */
    int64_t drawn_ms;
    bool shown;   /* a line is there to be wiped */
    bool no_rate; /* how many a second means nothing */
    bool on;
};

/* `wanted` false, or no terminal: nothing is ever shown. */
void progress_begin(struct progress *p, const char *what, int64_t total, bool wanted);
void progress_show(struct progress *p, int64_t done, const char *unit);
void progress_end(struct progress *p); /* wipes the line */

/* ---- Ctrl-C */

struct stop {
    int fd;        /* signalfd; -1 */
    int64_t at_ms; /* monotonic; of the first Ctrl-C (or SIGTERM); 0: none */
    bool hurried;  /* again, while it ends: do not wait for anybody */
};

void stop_catch(struct stop *s);
void stop_take(struct stop *s); /* looks; does not wait */
void stop_finish(struct stop *s);
