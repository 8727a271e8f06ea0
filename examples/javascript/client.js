// Ask a service, and print its answer, or each part of it, as a line of JSON.
//
// usage: node client.js URL QUEUE JSON [TIMEOUT]
//
// It ends with 0 after an answer, with 7 after an error answer, with 1 when none comes in time.
const amqp = require('amqplib');
const { randomUUID } = require('crypto');

const DIRECT_REPLY_TO = 'amq.rabbitmq.reply-to';

// An answer, or a part of one, as [object, isError, isLast].
function readAnswer(message) {
  const answer = JSON.parse(message.content.toString());
  const mq = answer.context?.mq ?? {};
  const isError = 'neon-error' in (message.properties.headers ?? {});
  // a service that answers in one piece says nothing of parts
  const isPart = 'is_final' in answer || 'is_final' in mq;
  return [answer, isError, !isPart || Boolean(answer.is_final || mq.is_final)];
}

async function ask(channel, queue, request, timeout, onAnswer) {
  const id = randomUUID();
  let timer, end;
  const ended = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeout} s`)), timeout * 1000);
    end = resolve;
  });
  await channel.consume(DIRECT_REPLY_TO, (message) => {
    if (message === null || message.properties.correlationId !== id) return;
    const [answer, isError, isLast] = readAnswer(message);
    timer.refresh(); // the time is that of each part
    onAnswer(answer);
    if (isLast) end(isError);
  }, { noAck: true });
  channel.sendToQueue(queue, Buffer.from(JSON.stringify(request)), {
    contentType: 'application/json',
    correlationId: id,
    replyTo: DIRECT_REPLY_TO,
    expiration: String(timeout * 1000),
  });
  return ended.finally(() => clearTimeout(timer));
}

async function main(url, queue, request, timeout = '10') {
  const connection = await amqp.connect(url);
  try {
    const channel = await connection.createChannel();
    const print = (answer) => console.log(JSON.stringify(answer));
    return (await ask(channel, queue, JSON.parse(request), Number(timeout), print)) ? 7 : 0;
  } finally {
    await connection.close();
  }
}

main(...process.argv.slice(2)).then(
  (code) => { process.exitCode = code; },
  (error) => { console.error(String(error)); process.exitCode = 1; },
);
