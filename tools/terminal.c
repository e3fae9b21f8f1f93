#include "tools/terminal.h"

#include "base/clock.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    WINDOW_LEAST = 20, /* columns; narrower ones are taken for as wide */
    WINDOW_USUAL = 80,
    FIRST_DRAWN_MS = 300, /* what is over sooner shows nothing */
    DRAW_MS = 100,
    SECOND_SIGNAL_MS = 300, /* a signal that comes twice at once is one */
    BAR_WIDTH = 24,
};

int window_columns(FILE *to)
{
    struct winsize size;
    if (!isatty(fileno(to))) {
        return WINDOW_NONE;
    }
    if (ioctl(fileno(to), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        return WINDOW_USUAL;
    }
    return size.ws_col < WINDOW_LEAST ? WINDOW_LEAST : size.ws_col;
}

static bool has_colors(FILE *to)
{
    const char *no = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return isatty(fileno(to)) && !(no && no[0]) && term && strcmp(term, "dumb") != 0;
}

const char *color_begin(FILE *to, enum color color)
{
    static const char *const codes[] = {"",         "\033[1m",  "\033[31m",
                                        "\033[32m", "\033[33m", "\033[2m"};
    return has_colors(to) ? codes[color] : "";
}

const char *color_end(FILE *to)
{
    return has_colors(to) ? "\033[0m" : "";
}

/* ---- text */

size_t text_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

static size_t text_bytes(const char *text, size_t width) /* of its first characters */
{
    const char *p = text;
    for (; *p && width > 0; width--) {
        for (p++; ((unsigned char)*p & 0xc0) == 0x80; p++) {
        }
    }
    return (size_t)(p - text);
}

void text_put(FILE *to, const char *text, size_t width)
{
    if (text_width(text) <= width) {
        fputs(text, to);
    } else {
        size_t dots = width < 3 ? width : 3;
        fprintf(to, "%.*s%.*s", (int)text_bytes(text, width - dots), text, (int)dots, "...");
    }
}

void text_fold(FILE *to, const char *text, int column, int indent, int otherwise)
{
    int columns = window_columns(to);
    columns = columns == WINDOW_NONE ? otherwise : columns;
    bool is_first = true; /* word of its line */
    while (*text) {
        size_t size = strcspn(text, " \n");
        int width = (int)text_width(text) - (int)text_width(text + size);
        if (columns > 0 && !is_first && column + 1 + width > columns) {
            fprintf(to, "\n%*s", indent, "");
            column = indent;
            is_first = true;
        }
        fputs(is_first ? "" : " ", to);
        for (size_t i = 0; i < size; i++) {
            putc(text[i] == '\t' ? ' ' : text[i], to);
        }
        column += width + !is_first;
        is_first = false;
        text += size;
        if (*text == '\n') {
            fprintf(to, "\n%*s", text[1] && text[1] != '\n' ? indent : 0, "");
            column = indent;
            is_first = true;
        }
        text += *text != 0;
    }
    putc('\n', to);
}

/* ---- progress */

void progress_begin(struct progress *p, const char *what, int64_t total, bool wanted)
{
    *p = (struct progress){
        .what = what, .total = total, .on = wanted && window_columns(stderr) != WINDOW_NONE};
    p->began_ms = clock_mono_ms(&clock_real);
    p->drawn_ms = p->began_ms + FIRST_DRAWN_MS - DRAW_MS;
}

/* As much as fits: what and how far; then the share; then the bar; then the rate. */
void progress_show(struct progress *p, int64_t done, const char *unit)
{
    int64_t now = p->on ? clock_mono_ms(&clock_real) : 0;
    if (!p->on || now < p->drawn_ms + DRAW_MS) {
        return;
    }
    p->drawn_ms = now;
    p->shown = true;
    char line[256], share[16] = "", rate[64] = "";
    int64_t took = now - p->began_ms;
    double part = p->total > 0 ? (double)done / (double)p->total : 0;
    part = part > 1 ? 1 : part;
    int count = snprintf(line, sizeof line, "%s %lld %s", p->what, (long long)done, unit);
    if (p->total > 0) {
        snprintf(share, sizeof share, " %3d%%", (int)(part * 100));
    }
    if (!p->no_rate) {
        snprintf(rate, sizeof rate, " %lld/s", took > 0 ? (long long)(done * 1000 / took) : 0LL);
    }
    size_t room = (size_t)window_columns(stderr) - 1;
    fputs("\r\033[K", stderr);
    size_t used = (size_t)count;
    if (p->total > 0 && used + strlen(share) + BAR_WIDTH + 3 <= room) {
        int full = (int)(part * BAR_WIDTH);
        fputc('[', stderr);
        for (int i = 0; i < BAR_WIDTH; i++) {
            fputc(i < full ? '#' : '.', stderr);
        }
        fputs("] ", stderr);
        used += BAR_WIDTH + 3;
    }
    text_put(stderr, line, room);
    if (used + strlen(share) <= room) {
        fputs(share, stderr);
        used += strlen(share);
        fputs(used + strlen(rate) <= room ? rate : "", stderr);
    }
    fflush(stderr);
}

void progress_end(struct progress *p)
{
    if (p->shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        p->shown = false;
    }
}

/* ---- Ctrl-C */

/* The first one ends it cleanly; another one, a while later, does not wait for the broker. */
void stop_catch(struct stop *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    *s = (struct stop){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
    if (s->fd >= 0) { /* else they end it as they end any program */
        sigprocmask(SIG_BLOCK, &set, NULL);
    }
}

void stop_take(struct stop *s)
{
    struct signalfd_siginfo info;
    int64_t now = clock_mono_ms(&clock_real);
    while (s->fd >= 0 && read(s->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (!s->at_ms) {
            s->at_ms = now;
            if (info.ssi_signo == SIGINT && isatty(STDERR_FILENO)) {
                fputc('\n', stderr); /* behind the ^C that the terminal shows */
            }
        }
        s->hurried |= now - s->at_ms >= SECOND_SIGNAL_MS;
    }
}

void stop_finish(struct stop *s)
{
    if (s->fd >= 0) {
        close(s->fd);
    }
    s->fd = -1;
}
