/* Where librivulet puts keys, beside where another client does.
 *
 *     placement BROKER TOPIC COLUMN COUNT[,COUNT]... < FILE
 *
 * FILE is what java/peers/Placement.java writes: a line a key, the key in hex, then its partition
 * among each COUNT, tabs between. Asks rv_partition_of_key for each; and sends each to TOPIC, which
 * has as many partitions as the COLUMNth COUNT (from 0) says, to see where it goes. Prints what
 * differs, and at the end "same KEYS keys, PLACES places, SENT sent".
 */
#include "client/rivulet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 200, LINE_SIZE = 2048, COUNTS_MAX = 16, FLUSH_MS = 60000 };

struct placement {
    struct rv_client *client;
    struct rv_producer *producer;
    const char *topic;
    long counts[COUNTS_MAX];
    int count_count;
    int column;
    int keys, places, sent, wrong;
};

static struct placement all; /* one a process; deliveries find it here */

static void die(const char *what, const struct rv_error *e)
{
    fprintf(stderr, "%s: %s: %s\n", what, rv_error_name(e->code), e->text);
    exit(1);
}

static void delivered(void *ctx, const struct rv_delivery *d)
{
    long want = (long)(intptr_t)ctx;
    if (d->error) {
        die("delivery", d->error);
    }
    if (d->partition != want) {
        printf("a key that belongs to %ld went to %d\n", want, (int)d->partition);
        all.wrong++;
    }
    all.sent++;
}

static int digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;
    if (!at) {
        fprintf(stderr, "not a digit: '%c'\n", c);
        exit(2);
    }
    return (int)(at - digits);
}

static void take(char *line)
{
    unsigned char key[KEY_MAX];
    char *rest = strchr(line, '\t');
    struct rv_error e = {0};
    if (!rest || rest - line > 2 * KEY_MAX || (rest - line) % 2) {
        fprintf(stderr, "not a key: %s\n", line);
        exit(2);
    }
    size_t size = (size_t)(rest - line) / 2;
    for (size_t i = 0; i < size; i++) {
        key[i] = (unsigned char)(digit(line[2 * i]) * 16 + digit(line[2 * i + 1]));
    }
    for (int i = 0; i < all.count_count; i++) {
        if (*rest != '\t') {
            fprintf(stderr, "not %d partitions: %s\n", all.count_count, line);
            exit(2);
        }
        long want = strtol(rest + 1, &rest, 10);
        int32_t got = rv_partition_of_key(key, size, (int32_t)all.counts[i]);
        if (got != want) {
            printf("%.*s among %ld: want %ld, got %d\n", (int)(2 * size), line, all.counts[i], want,
                   (int)got);
            all.wrong++;
        }
        all.places++;
        if (i == all.column) {
            const struct rv_message message = {
                .topic = all.topic, .key = {key, size}
            };
            if (rv_send(all.producer, &message, delivered, (void *)(intptr_t)want, &e) != RV_OK) {
                die("send", &e);
            }
        }
    }
    all.keys++;
}

int main(int argc, char **argv)
{
    static char line[LINE_SIZE];
    struct rv_error e = {0};
    if (argc != 5) {
        fprintf(stderr, "usage: placement BROKER TOPIC COLUMN COUNT[,COUNT]... < FILE\n");
        return 2;
    }
    const struct rv_option *options = RV_OPTIONS({"bootstrap.servers", argv[1]});
    all.topic = argv[2];
    all.column = atoi(argv[3]);
    for (char *at = argv[4]; *at && all.count_count < COUNTS_MAX; at += *at == ',') {
        all.counts[all.count_count++] = strtol(at, &at, 10);
    }
    if (rv_client_open(options, &all.client, &e) != RV_OK ||
        rv_producer_open(all.client, options, &all.producer, &e) != RV_OK) {
        die("open", &e);
    }
    while (fgets(line, sizeof line, stdin)) {
        take(line);
    }
    if (rv_flush(all.producer, FLUSH_MS, &e) != RV_OK) {
        die("flush", &e);
    }
    rv_producer_close(all.producer);
    rv_client_close(all.client);
    printf("same %d keys, %d places, %d sent\n", all.keys, all.places, all.sent);
    return all.wrong || all.sent != all.keys;
}
