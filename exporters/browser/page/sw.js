// Keeps the folder on the device: after one visit it works without a network. `kept` stands above.
const { scope } = registration;
const PREFIX = `cnnkit ${scope} `;
const NAME = PREFIX + kept.version;

addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(NAME);
    try {
      await cache.addAll(kept.files.map((file) => new Request(file, { cache: "no-cache" })));
    } catch (error) {
      await caches.delete(NAME);
      for (const client of await clients.matchAll({ includeUncontrolled: true })) {
        client.postMessage({ notKept: error.name });
      }
      throw error;
    }
    await skipWaiting();
  })());
});

addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name.startsWith(PREFIX) && name !== NAME) await caches.delete(name);
    await clients.claim();
  })());
});

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(scope)) return;
  event.respondWith((async () => {
    const cache = await caches.open(NAME);
    const wanted = request.url.replace(/index\.html(?=$|[?#])/, ""); // kept as the folder itself
    const found = await cache.match(wanted, { ignoreSearch: true, ignoreVary: true });
    if (found) return found;
    const reply = await fetch(request);
    if (reply.ok && kept.later.includes(wanted.slice(scope.length))) {
      event.waitUntil(cache.put(wanted, reply.clone())); // where there is no room for it, the others stay
    }
    return reply;
  })());
});
