// The service of the Restate lab: a set of values per key. Every call, reads too, goes through the replicated log.
import * as restate from "@restatedev/restate-sdk";

const set = restate.object({
  name: "Set",
  handlers: {
    add: async (ctx, value) => {
      const values = (await ctx.get("values")) ?? [];
      if (!values.includes(value)) ctx.set("values", [...values, value]);
    },
    get: async (ctx) => (await ctx.get("values")) ?? [],
    clear: async (ctx) => ctx.clear("values"),
  },
});

const ping = restate.service({ name: "Ping", handlers: { ping: async () => "pong" } });

restate.endpoint().bind(set).bind(ping).listen(9080);
