#include <rivulet.h>
#include <stdio.h>

static void delivered(void *ctx, const struct rv_delivery *delivery)
{
    int *failures = ctx;
    if (delivery->error) {
        fprintf(stderr, "not delivered: %s\n", delivery->error->text);
        ++*failures;
    } else {
        printf("partition %d, offset %lld\n", delivery->partition, (long long)delivery->offset);
    }
}

int main(int argc, char **argv)
{
    const char *brokers = argc > 1 ? argv[1] : "127.0.0.1:9092";
    struct rv_client *client = NULL;
    struct rv_producer *producer = NULL;
    struct rv_error error;
    int failures = 0;
    const struct rv_message message = {.topic = "users", /* the key decides the partition */
                                       .key = RV_STR("ada"),
                                       .value = RV_STR("ada@example.org")};

    if (rv_client_open(RV_OPTIONS({"bootstrap.servers", brokers}), &client, &error) ||
        rv_producer_open(client, NULL, &producer, &error) ||
        rv_send(producer, &message, delivered, &failures, &error) || /* copies it */
        rv_flush(producer, -1, &error)) { /* waits; delivered() is called in here */
        fprintf(stderr, "%s\n", error.text);
        failures++;
    }
    rv_producer_close(producer);
    rv_client_close(client);
    return failures > 0;
}
