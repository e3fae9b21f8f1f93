/* A program with a loop of its own: poll(2) over standard input and a rivulet client. Each line
 * that comes in is produced, without ever waiting for the broker.
 *
 *     cc poll.c $(pkg-config --cflags --libs rivulet) -o poll && ./poll 127.0.0.1:9092 lines
 */
#include <rivulet.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_SIZE = 4096 };

struct lines {
    struct rv_producer *producer;
    const char *topic;
    char text[LINE_SIZE]; /* what has come and is not handed over yet */
    size_t size;
    long delivered, failed;
};

static void delivered(void *ctx, const struct rv_delivery *delivery)
{
    struct lines *lines = ctx;
    if (delivery->error) {
        fprintf(stderr, "%s\n", delivery->error->text);
        lines->failed++;
    } else {
        lines->delivered++;
    }
}

/* Hands over the whole lines. RV_E_FULL: memory is in use, or the topic is not known yet; the rest
 * waits for the next turn. */
static int hand_over(struct lines *lines, struct rv_error *error)
{
    char *end;
    while ((end = memchr(lines->text, '\n', lines->size))) {
        size_t size = (size_t)(end - lines->text);
        const struct rv_message message = {
            .topic = lines->topic, .value = {lines->text, size}
        };
        int code = rv_send(lines->producer, &message, delivered, lines, error);
        if (code != RV_OK) {
            return code == RV_E_FULL ? RV_OK : code;
        }
        lines->size -= size + 1;
        memmove(lines->text, end + 1, lines->size);
    }
    return RV_OK;
}

/* Until the input has ended and the fate of every record is known. */
static int run(struct rv_client *client, struct lines *lines, struct rv_error *error)
{
    bool more = true;
    while (more || lines->size > 0 || rv_pending(lines->producer) > 0) {
        bool room = more && lines->size < LINE_SIZE;
        struct pollfd fds[] = {
            {.fd = rv_fd(client),            .events = POLLIN},
            {.fd = room ? STDIN_FILENO : -1, .events = POLLIN}
        };
        if (poll(fds, 2, rv_timeout(client)) > 0 && fds[1].revents) {
            ssize_t n = read(STDIN_FILENO, lines->text + lines->size, LINE_SIZE - lines->size);
            more = n > 0;
            lines->size += n > 0 ? (size_t)n : 0;
            if (!more && lines->size > 0 && lines->size < LINE_SIZE) {
                lines->text[lines->size++] = '\n'; /* the last line has no end */
            }
        }
        int code = rv_process(client, error);
        code = code ? code : hand_over(lines, error);
        if (code != RV_OK) {
            return code;
        }
        if (lines->size == LINE_SIZE && !memchr(lines->text, '\n', LINE_SIZE)) {
            fprintf(stderr, "a line is longer than %d bytes\n", LINE_SIZE);
            lines->failed++;
            lines->size = 0;
        }
    }
    return RV_OK;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: poll BROKER TOPIC\n");
        return 2;
    }
    struct lines lines = {.topic = argv[2]};
    struct rv_client *client = NULL;
    struct rv_error error;
    int code = rv_client_open(RV_OPTIONS({"bootstrap.servers", argv[1]}), &client, &error);
    if (code == RV_OK) { /* max.block.ms=0: rv_send never waits */
        code = rv_producer_open(client, RV_OPTIONS({"max.block.ms", "0"}), &lines.producer, &error);
    }
    if (code == RV_OK) {
        code = run(client, &lines, &error);
    }
    if (code != RV_OK) {
        fprintf(stderr, "%s\n", error.text);
    }
    rv_producer_close(lines.producer);
    rv_client_close(client);
    printf("%ld delivered, %ld failed\n", lines.delivered, lines.failed);
    return code != RV_OK || lines.failed > 0;
}
