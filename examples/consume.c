#include <rivulet.h>
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

int main(int argc, char **argv)
{
    const char *brokers = argc > 1 ? argv[1] : "127.0.0.1:9092", *topic = "users";
    const struct rv_option *options = /* what rv_poll returned is committed by later rv_polls */
        RV_OPTIONS({"bootstrap.servers", brokers}, {"group.id", "billing"},
                   {"auto.offset.reset", "earliest"}, {"delivery", "at-least-once"});
    struct rv_client *client = NULL;
    struct rv_consumer *consumer = NULL;
    const struct rv_record *records;
    size_t count;
    struct rv_error error;

    signal(SIGINT, on_signal);
    int failed = rv_client_open(options, &client, &error) ||
                 rv_consumer_open(client, options, &consumer, &error) ||
                 rv_subscribe(consumer, &topic, 1, &error);
    while (!failed && !stop && !(failed = rv_poll(consumer, 500, &records, &count, &error))) {
        for (size_t i = 0; i < count; i++) {
            printf("%.*s\n", (int)records[i].value.size, (const char *)records[i].value.ptr);
        }
    } /* closing commits and leaves the group */
    if (rv_consumer_close(consumer, -1, failed ? NULL : &error) || failed) {
        fprintf(stderr, "%s\n", error.text);
        failed = 1;
    }
    rv_client_close(client);
    return failed != 0;
}
