/* A service that publishes through a spool, for tests that kill it.
 *
 *     spool_service DIR BROKER TOPIC [OPTION=VALUE]...
 *
 * Each line of standard input, "KEY VALUE", is appended on one thread; when rv_spool_append has
 * returned, VALUE is printed, a line each. "full VALUE" says that there was no room. Another thread
 * sends; BROKER "-" sends nothing. At the end of the input it waits until everything is sent, and
 * ends with 0. Events that are set aside are "aside VALUE".
 */
#include "client/spool/rivulet_spool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPTIONS_MAX = 16, LINE_LIMIT = 65536, STEP_MS = 200 };

struct service {
    struct rv_spool *spool;
    struct rv_client *client; /* NULL: it only appends */
    pthread_mutex_t lock;
    bool input_ended; /* under the lock */
};

static void fail(const char *what, const struct rv_error *e)
{
    fprintf(stderr, "%s: %s: %s\n", what, rv_error_name(e->code), e->text);
    _exit(1);
}

static void print_line(const char *word, const void *text, size_t size)
{
    printf("%s%.*s\n", word, (int)size, (const char *)text);
    fflush(stdout);
}

static void on_refused(void *ctx, const struct rv_spool_event *e)
{
    (void)ctx;
    print_line("aside ", e->message.value.ptr, e->message.value.size);
}

static bool has_ended(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    bool ended = s->input_ended;
    pthread_mutex_unlock(&s->lock);
    return ended;
}

static void *send_all(void *ctx)
{
    struct service *s = ctx;
    struct rv_error e = {0};
    for (;;) {
        bool is_last = has_ended(s); /* before the look at what there is */
        if (rv_spool_wait(s->spool, STEP_MS, &e) != RV_OK) {
            fail("wait", &e);
        }
        int code = rv_spool_send(s->spool, s->client, STEP_MS, &e);
        if (code != RV_OK && code != RV_E_TIMED_OUT) {
            fail("send", &e);
        }
        if (code == RV_OK && is_last) {
            return NULL;
        }
    }
}

static void append_all(struct service *s, const char *topic)
{
    static char line[LINE_LIMIT];
    struct rv_error e = {0};
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *space = strchr(line, ' ');
        if (!space) {
            fprintf(stderr, "a line without a space: %s\n", line);
            _exit(1);
        }
        *space = 0;
        const struct rv_message m = {
            .topic = topic, .key = rv_str(line), .value = rv_str(space + 1)};
        int code = rv_spool_append(s->spool, &m, NULL, &e);
        if (code != RV_OK && code != RV_E_FULL) {
            fail("append", &e);
        }
        print_line(code == RV_OK ? "" : "full ", space + 1, strlen(space + 1));
    }
}

int main(int argc, char **argv)
{
    struct rv_option options[OPTIONS_MAX + 3] = {
        {"spool.dir",         argc > 1 ? argv[1] : ""},
        {"bootstrap.servers", argc > 2 ? argv[2] : ""}
    };
    int count = 2;
    for (int i = 4; i < argc && count < OPTIONS_MAX; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals) {
            *equals = 0;
            options[count++] = (struct rv_option){argv[i], equals + 1};
        }
    }
    if (argc < 4) {
        fprintf(stderr, "spool_service DIR BROKER TOPIC [OPTION=VALUE]...\n");
        return 2;
    }
    struct service s = {0};
    struct rv_error e = {0};
    pthread_t sender;
    pthread_mutex_init(&s.lock, NULL);
    if (rv_spool_open(options, &s.spool, &e) != RV_OK) {
        fail("open", &e);
    }
    rv_spool_on_refused(s.spool, on_refused, NULL);
    if (strcmp(argv[2], "-") != 0) {
        struct rv_option own[] = {
            {"bootstrap.servers",        argv[2]},
            {"retry.backoff.max.ms",     "50"   },
            {"reconnect.backoff.max.ms", "50"   },
            {NULL,                       NULL   }
        };
        if (rv_client_open(own, &s.client, &e) != RV_OK) {
            fail("client", &e);
        }
        pthread_create(&sender, NULL, send_all, &s);
    }
    append_all(&s, argv[3]);
    pthread_mutex_lock(&s.lock);
    s.input_ended = true;
    pthread_mutex_unlock(&s.lock);
    if (s.client) {
        pthread_join(sender, NULL);
    }
    if (rv_spool_close(s.spool, &e) != RV_OK) {
        fail("close", &e);
    }
    rv_client_close(s.client);
    return 0;
}
