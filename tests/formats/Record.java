// SPDX-License-Identifier: PostgreSQL

import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.List;
import java.util.Map;

import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.storage.SimpleHeaderConverter;
import org.springframework.kafka.support.serializer.JsonSerializer;

import io.debezium.data.Envelope;
import io.debezium.data.Json;
import io.debezium.transforms.outbox.EventRouter;

/**
 * Prints records that Spring Kafka's and Debezium's classes make, in the form
 * of record.py. Run by dev/record-formats.
 */
public class Record {

    public record Item(String productId, int quantity) { }

    public record OrderPlaced(String orderId, List<Item> items) { }

    private static final Schema SOURCE = SchemaBuilder.struct()
            .name("io.debezium.connector.postgresql.Source")
            .field("db", Schema.STRING_SCHEMA)
            .field("table", Schema.STRING_SCHEMA).build();

    public static void main(String[] arguments) {
        spring();
        for (boolean expand : new boolean[] {false, true}) {
            for (boolean schemas : new boolean[] {false, true}) {
                outbox(expand, schemas);
            }
        }
        for (boolean schemas : new boolean[] {false, true}) {
            change(schemas);
            outboxRow(schemas);
        }
    }

    private static String order(String id) {
        return "{\"orderId\": \"" + id + "\", \"items\": "
                + "[{\"productId\": \"book\", \"quantity\": 2}]}";
    }

    private static void spring() {
        try (JsonSerializer<OrderPlaced> serializer = new JsonSerializer<>()) {
            Headers headers = new RecordHeaders();
            byte[] value = serializer.serialize("orders", headers,
                    new OrderPlaced("spring-1", List.of(new Item("book", 2))));
            show("spring-kafka", "JsonSerializer", null, value, headers);
        }
    }

    /** A row of an outbox table, as Debezium's connectors write it. */
    private static SourceRecord inserted(String id) {
        Schema row = SchemaBuilder.struct().name("shop.public.outbox.Value")
                .field("id", Schema.STRING_SCHEMA)
                .field("aggregatetype", Schema.STRING_SCHEMA)
                .field("aggregateid", Schema.STRING_SCHEMA)
                .field("type", Schema.STRING_SCHEMA)
                .field("payload", Json.schema()).optional().build();
        return created("shop.public.outbox", row, new Struct(row)
                .put("id", id + "-event").put("aggregatetype", "orders")
                .put("aggregateid", id).put("type", "OrderPlaced")
                .put("payload", order(id)), id);
    }

    private static SourceRecord created(String name, Schema schema, Struct row,
            String key) {
        Envelope envelope = Envelope.defineSchema()
                .withName(name + ".Envelope").withRecord(schema)
                .withSource(SOURCE).build();
        Struct source = new Struct(SOURCE).put("db", "shop")
                .put("table", name.substring(name.lastIndexOf('.') + 1));
        return new SourceRecord(Map.of(), Map.of(), name, 0,
                Schema.STRING_SCHEMA, key, envelope.schema(),
                envelope.create(row, source, Instant.EPOCH), 0L);
    }

    private static void outbox(boolean expand, boolean schemas) {
        String id = "outbox-" + (expand ? "expanded" : "text")
                + (schemas ? "-schema" : "");
        EventRouter<SourceRecord> router = new EventRouter<>();
        router.configure(Map.of(
                "table.expand.json.payload", Boolean.toString(expand),
                "table.fields.additional.placement", "type:header:eventType",
                "route.topic.replacement", "${routedByValue}"));
        show("debezium", "EventRouter, " + id, router.apply(inserted(id)),
                schemas);
        router.close();
    }

    private static void outboxRow(boolean schemas) {
        String id = "row" + (schemas ? "-schema" : "");
        show("debezium", "outbox row, " + id, inserted(id), schemas);
    }

    private static void change(boolean schemas) {
        String id = "change" + (schemas ? "-schema" : "");
        Schema row = SchemaBuilder.struct().name("shop.public.purchase.Value")
                .field("order_id", Schema.STRING_SCHEMA)
                .field("product_id", Schema.STRING_SCHEMA)
                .field("quantity", Schema.INT32_SCHEMA).optional()
                .build();
        show("debezium", "change event, " + id,
                created("shop.public.purchase", row, new Struct(row)
                        .put("order_id", id).put("product_id", "book")
                        .put("quantity", 2), id), schemas);
    }

    private static void show(String client, String what, SourceRecord record,
            boolean schemas) {
        try (JsonConverter converter = new JsonConverter();
                SimpleHeaderConverter header = new SimpleHeaderConverter()) {
            converter.configure(Map.of("schemas.enable",
                    Boolean.toString(schemas)), false);
            Headers headers = new RecordHeaders();
            record.headers().forEach(one -> headers.add(one.key(),
                    header.fromConnectHeader(record.topic(), one.key(),
                            one.schema(), one.value())));
            show(client, what, record.key().toString(),
                    converter.fromConnectData(record.topic(),
                            record.valueSchema(), record.value()), headers);
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static void show(String client, String what, String key,
            byte[] value, Headers headers) {
        StringBuilder line = new StringBuilder("{\"client\": \"" + client
                + "\", \"what\": \"" + what + "\", \"key\": "
                + (key == null ? "null" : "\"" + hex(key.getBytes(
                        StandardCharsets.UTF_8)) + "\"")
                + ", \"value\": \"" + hex(value) + "\", \"headers\": [");
        String separator = "";
        for (Header header : headers) {
            line.append(separator).append("[\"").append(header.key())
                    .append("\", \"").append(hex(header.value())).append("\"]");
            separator = ", ";
        }
        System.out.println(line.append("]}"));
    }

    private static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte one : bytes) {
            text.append(String.format("%02x", one));
        }
        return text.toString();
    }
}
