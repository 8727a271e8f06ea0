// A service: it answers {"text": ...} with the text in capitals, and {"text": ..., "parts": true}
// letter by letter.
//
// usage: node service.js URL QUEUE [durable]
const amqp = require('amqplib');

// What a request that cannot be answered is answered with.
class Refusal extends Error {
  constructor(type, message, details = null) {
    super(message);
    this.error = { type, message, details };
  }
}

function* handle(request) {
  if (typeof request.text !== 'string') {
    throw new Refusal('InvalidRequest', 'a text is needed', Object.keys(request));
  }
  const text = request.text.toUpperCase();
  if (!request.parts) {
    yield { text };
    return;
  }
  for (let index = 0; index < text.length; index++) {
    yield { text: text[index], is_final: index === text.length - 1 };
  }
}

// Where the answers to a request go, and a function that makes one of an object.
function replyRoute(properties, request) {
  const { replyTo, correlationId, messageId } = properties;
  if (replyTo) {
    const options = { correlationId: correlationId ?? messageId, contentType: 'application/json' };
    return [replyTo, options];
  }
  // the parts of an answer are read from a queue that the body names
  return [request.routing_key, { correlationId, contentType: 'application/json' }];
}

function onMessage(channel, message) {
  const { properties } = message;
  let request = {};
  const send = (answer, headers) => {
    const [queue, options] = replyRoute(properties, request);
    if (!queue) return;
    const context = { mq: { message_id: request.message_id ?? properties.messageId } };
    const body = Buffer.from(JSON.stringify({ context, ...answer }));
    channel.sendToQueue(queue, body, { ...options, headers });
  };
  try {
    request = JSON.parse(message.content.toString());
    for (const answer of handle(request)) send(answer);
  } catch (failure) {
    const { replyTo, headers = {} } = properties;
    const error = failure.error ?? { type: failure.name, message: failure.message, details: null };
    if (headers['neon-reply-queue'] || (replyTo && !request.routing_key)) {
      send({ error, is_final: true }, { 'neon-error': error.type });
    }
  }
  channel.ack(message);
}

async function main(url, queue, durable) {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  // as services in Python declare it: durable only where the broker refuses others
  await channel.assertQueue(queue, { durable: durable === 'durable' });
  await channel.prefetch(50);
  await channel.consume(queue, (message) => message && onMessage(channel, message));
  process.on('SIGTERM', () => connection.close());
  console.log(`waiting for requests in ${queue}`);
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(String(error));
  process.exitCode = 1;
});
