//! The async-nats client through a leaf: `petiole-interop-client URL [nkey SEED | tls CAFILE |
//! tls-first CAFILE] STEP...` runs the steps in order and says `ok STEP` for each; the first failure ends it. `stream:D` names the JetStream domain.

use std::error::Error;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::pull, kv, stream};
use async_nats::{Client, ConnectOptions, HeaderMap, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;

type Outcome = Result<(), Box<dyn Error>>;

/// Nothing of all this takes long.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("no url")?;
    let mut steps: Vec<String> = args.collect();
    let mut options = ConnectOptions::new();
    if steps.first().is_some_and(|s| s == "nkey") {
        steps.remove(0);
        options = ConnectOptions::with_nkey(steps.remove(0));
    } else if let Some(way @ ("tls" | "tls-first")) = steps.first().map(String::as_str) {
        let is_first = way == "tls-first";
        steps.remove(0);
        options = options
            .add_root_certificates(steps.remove(0).into())
            .require_tls(true);
        if is_first {
            options = options.tls_first();
        }
    }
    let client = options.connect(url).await?;
    for step in steps {
        let run = async {
            let (name, domain) = match step.split_once(':') {
                Some((name, domain)) => (name, Some(domain)),
                None => (step.as_str(), None),
            };
            let js = match domain {
                Some(domain) => jetstream::with_domain(client.clone(), domain),
                None => jetstream::new(client.clone()),
            };
            match name {
                "pubsub" => pubsub(&client).await,
                "request" => request(&client).await,
                "queue" => queue(&client).await,
                "headers" => headers(&client).await,
                "no_responders" => no_responders(&client).await,
                "hub_echo" => hub_echo(&client).await,
                "stream" => stream_and_pull(&js).await,
                "kv" => key_value(&js).await,
                other => Err(format!("no step {other}").into()),
            }
        };
        tokio::time::timeout(DEADLINE, run)
            .await
            .map_err(|_| format!("{step}: not done in time"))?
            .map_err(|error| format!("{step}: {error}"))?;
        println!("ok {step}");
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Outcome {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{got:?} instead of {wanted:?}").into())
    }
}

async fn pubsub(client: &Client) -> Outcome {
    let mut sub = client.subscribe("r.*").await?;
    client.publish("r.one", "1".into()).await?;
    client.publish("r.two", "".into()).await?;
    for (subject, payload) in [("r.one", "1"), ("r.two", "")] {
        let msg = sub.next().await.ok_or("no message")?;
        same(
            (msg.subject.as_str(), &*msg.payload),
            (subject, payload.as_bytes()),
        )?;
    }
    sub.unsubscribe().await?;
    Ok(())
}

async fn request(client: &Client) -> Outcome {
    let mut sub = client.subscribe("r.service").await?;
    client.flush().await?;
    let answer = async {
        let msg = sub.next().await.ok_or("no request")?;
        client
            .publish(msg.reply.ok_or("no reply subject")?, msg.payload)
            .await?;
        Ok::<_, Box<dyn Error>>(())
    };
    let ask = client.request("r.service", "question".into());
    let (answered, reply) = tokio::join!(answer, ask);
    answered?;
    same(reply?.payload, Bytes::from("question"))
}

async fn queue(client: &Client) -> Outcome {
    let mut one = client.queue_subscribe("r.work", "G".into()).await?;
    let mut two = client.queue_subscribe("r.work", "G".into()).await?;
    client.flush().await?;
    for n in 0..40 {
        client.publish("r.work", n.to_string().into()).await?;
    }
    let mut got = Vec::new();
    while got.len() < 40 {
        let msg = tokio::select! { msg = one.next() => msg, msg = two.next() => msg };
        got.push(String::from_utf8(msg.ok_or("no message")?.payload.to_vec())?.parse::<u32>()?);
    }
    got.sort_unstable();
    same(got, (0..40).collect())
}

async fn headers(client: &Client) -> Outcome {
    let mut sub = client.subscribe("r.headers").await?;
    let mut headers = HeaderMap::new();
    headers.insert("Key", "value");
    client
        .publish_with_headers("r.headers", headers, "x".into())
        .await?;
    let msg = sub.next().await.ok_or("no message")?;
    let headers = msg.headers.ok_or("no headers")?;
    same(headers.get("Key").map(|v| v.as_str()), Some("value"))?;
    same(&*msg.payload, b"x".as_slice())
}

async fn no_responders(client: &Client) -> Outcome {
    match client.request("r.nobody", "".into()).await {
        Err(error) => same(error.kind(), RequestErrorKind::NoResponders),
        Ok(msg) => Err(format!("an answer: {msg:?}").into()),
    }
}

/// Somebody at the hub answers on `hub.echo`.
async fn hub_echo(client: &Client) -> Outcome {
    let msg = client.request("hub.echo", "over".into()).await?;
    same(msg.payload, Bytes::from("over"))
}

async fn stream_and_pull(js: &jetstream::Context) -> Outcome {
    let stream = js
        .create_stream(stream::Config {
            name: "RS".into(),
            subjects: vec!["rs.>".into()],
            ..Default::default()
        })
        .await?;
    for n in 1..=5u64 {
        let ack = js
            .publish(format!("rs.{n}"), n.to_string().into())
            .await?
            .await?;
        same(ack.sequence, n)?;
    }
    let consumer = stream
        .create_consumer(pull::Config {
            durable_name: Some("D".into()),
            ..Default::default()
        })
        .await?;
    let mut batch = consumer.fetch().max_messages(5).messages().await?;
    let mut got = Vec::new();
    while let Some(msg) = batch.next().await {
        let msg = msg.map_err(|e| e.to_string())?;
        got.push(msg.subject.to_string());
        msg.double_ack().await.map_err(|e| e.to_string())?;
    }
    same(got, (1..=5).map(|n| format!("rs.{n}")).collect())?;
    let mut consumer = consumer;
    same(consumer.info().await?.num_ack_pending, 0)?;
    js.delete_stream("RS").await?;
    Ok(())
}

async fn key_value(js: &jetstream::Context) -> Outcome {
    let bucket = js
        .create_key_value(kv::Config {
            bucket: "rkv".into(),
            history: 3,
            ..Default::default()
        })
        .await?;
    let mut watch = bucket.watch("k.*").await?;
    let revision = bucket.put("k.a", "1".into()).await?;
    same(bucket.get("k.a").await?, Some(Bytes::from("1")))?;
    bucket.update("k.a", "2".into(), revision).await?;
    same(bucket.get("k.a").await?, Some(Bytes::from("2")))?;
    bucket.delete("k.a").await?;
    same(bucket.get("k.a").await?, None)?;
    for value in ["1", "2", ""] {
        let entry = watch.next().await.ok_or("no entry")??;
        same(
            (entry.key.as_str(), &*entry.value),
            ("k.a", value.as_bytes()),
        )?;
    }
    js.delete_key_value("rkv").await?;
    Ok(())
}
