//! Forged tokens at the front door (targets: R5; RFC 8725; the statements of public JWS test suites, with vectors of our own).

use openssl::{
    bn::{BigNum, BigNumRef},
    hash::MessageDigest,
    pkey::PKey,
    rsa::Padding,
    sha::sha256,
    sign::Signer,
};
use serde_json::{Value, json};
use system_tests::{
    Api, Stack,
    forger::{Forger, claims, encode},
    raw::{bearer, request},
    stack::Kind,
};

/// A class and a token of it.
type Forgery = (String, String);

/// What forgers have to work with.
struct Workshop {
    /// The platform's key. Only what it signs with wrong claims shows that claims are checked at all.
    platform: Forger,
    /// A key of the attacker, under the name of the platform's.
    own: Forger,
    /// A genuine token, its claims, and those of a user of another tenant.
    token: String,
    claims: Value,
    others: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_open_nothing() {
    // Failures are what is counted.
    let unlimited = [
        ("TATAMI_GATEWAY__RATE_LIMIT__ACCOUNT_MINUTE", "0"),
        ("TATAMI_GATEWAY__RATE_LIMIT__ACCOUNT_HOUR", "0"),
        ("TATAMI_GATEWAY__RATE_LIMIT__ADDRESS_MINUTE", "0"),
        ("TATAMI_GATEWAY__RATE_LIMIT__ADDRESS_HOUR", "0"),
    ];
    let stack = Stack::start_with(Kind::Embedded, &unlimited).await;
    let (admin, other) = (stack.admin().await, stack.new_tenant().await);
    let platform = Forger::of(&stack).await;
    let workshop = Workshop {
        own: Forger::own(&platform.kid),
        platform,
        token: admin.token.clone(),
        claims: claims(&admin.token),
        others: claims(&other.token),
    };
    let forgeries = [
        workshop.algorithms(),
        workshop.keys(),
        workshop.signatures(),
        workshop.paddings(),
        workshop.spellings(),
        workshop.claims(),
    ]
    .concat();
    println!("{} forged tokens", forgeries.len());
    assert!(forgeries.len() >= 100, "{}", forgeries.len());
    for (class, token) in &forgeries {
        refused(&stack, class, token).await;
    }
    // All of that is refused for what is wrong with it: the same hands make good tokens.
    for good in [&workshop.token, &workshop.platform.token(&workshop.claims), &other.token] {
        assert_eq!(request(stack.gateway, "GET", "/device", &bearer(good)).await.0, 200);
    }
}

/// At every door that takes a token.
async fn refused(stack: &Stack, class: &str, token: &str) {
    for (method, path) in [("GET", "/device"), ("POST", "/auth/refresh"), ("POST", "/auth/password/update")] {
        let json = "Content-Type: application/json\r\nContent-Length: 0\r\n";
        let headers = format!("{}{}", bearer(token), if method == "POST" { json } else { "" });
        let (status, body) = request(stack.gateway, method, path, &headers).await;
        // What is no header value at all is no request.
        let is_unwritable = status == 400 && token.contains(['\n', '\0']);
        // Nor is one whose header is larger than every header may be.
        let is_too_large = [0, 431].contains(&status) && token.len() > 60_000;
        assert!(
            status == 401 || is_unwritable || is_too_large,
            "{class}: {method} {path} answered {status} {body}"
        );
        let told: Value = serde_json::from_str(&body).unwrap_or_default();
        assert!(is_unwritable || is_too_large || told["message"].is_string(), "{class}: {body}");
    }
}

impl Workshop {
    fn named(&self, class: &str, token: String) -> Forgery {
        assert_ne!(token, self.token, "{class} is a genuine token");
        (class.to_owned(), token)
    }

    /// Another algorithm than the one that we use.
    fn algorithms(&self) -> Vec<Forgery> {
        let (header, claims) = (self.platform.header(), self.claims.to_string());
        let with = |alg: Value| {
            let mut header = header.clone();
            header["alg"] = alg;
            header.to_string()
        };
        let signature = self.token.rsplit('.').next().unwrap();
        let mut all = Vec::new();
        for none in ["none", "None", "NONE", "nOnE", "none ", "", "null"] {
            for signature in ["", signature] {
                let token = format!("{}.{}.{signature}", encode(with(none.into())), encode(&claims));
                all.push(self.named(&format!("alg {none:?}, signature of {}", signature.len()), token));
            }
        }
        for alg in [json!(null), json!(["RS256"]), json!({"RS256": 1}), json!(256), json!(true)] {
            let class = format!("alg {alg}");
            all.push(self.named(&class, self.platform.sign(&with(alg), &claims)));
        }
        // A good signature of our key under another name, and one of our key by another algorithm.
        for name in
            ["rs256", "RS256 ", "RS384", "RS512", "PS256", "ES256", "HS256", "EdDSA", "RSA-OAEP", "RS1"]
        {
            all.push(self.named(
                &format!("RS256 that calls itself {name}"),
                self.platform.sign(&with(name.into()), &claims),
            ));
        }
        let digests = [
            ("256", MessageDigest::sha256()),
            ("384", MessageDigest::sha384()),
            ("512", MessageDigest::sha512()),
        ];
        for (bits, digest) in digests {
            for (letters, padding) in [("PS", Padding::PKCS1_PSS), ("RS", Padding::PKCS1)] {
                let name = format!("{letters}{bits}");
                for header in [name.as_str(), "RS256"] {
                    if name == "RS256" {
                        continue;
                    }
                    let token = self.platform.sign_with(&with(header.into()), &claims, digest, padding);
                    all.push(self.named(&format!("{name} that calls itself {header}"), token));
                }
            }
        }
        let sha1 =
            self.platform.sign_with(&with("RS256".into()), &claims, MessageDigest::sha1(), Padding::PKCS1);
        all.push(self.named("RS1 that calls itself RS256", sha1));
        // CVE-2022-21449, and lengths that its fixes have missed.
        for length in [64, 72, 256] {
            let token =
                format!("{}.{}.{}", encode(with("ES256".into())), encode(&claims), encode(vec![0; length]));
            all.push(self.named(&format!("ES256 with {length} zeros"), token));
        }
        for (kind, secret) in self.public_keys() {
            for name in ["HS256", "RS256"] {
                let key = PKey::hmac(&secret).unwrap();
                let input = format!("{}.{}", encode(with(name.into())), encode(&claims));
                let mac = Signer::new(MessageDigest::sha256(), &key)
                    .unwrap()
                    .sign_oneshot_to_vec(input.as_bytes())
                    .unwrap();
                all.push(
                    self.named(&format!("HMAC with {kind}, as {name}"), format!("{input}.{}", encode(mac))),
                );
            }
        }
        all
    }

    /// What everybody knows and a confused verifier takes for a secret.
    fn public_keys(&self) -> Vec<(&'static str, Vec<u8>)> {
        let rsa = &self.platform.rsa;
        vec![
            ("the public key as PEM", rsa.public_key_to_pem().unwrap()),
            ("the public key as PKCS 1", rsa.public_key_to_pem_pkcs1().unwrap()),
            ("the public key as DER", rsa.public_key_to_der().unwrap()),
            ("the modulus", rsa.n().to_vec()),
            ("the name of the key", self.platform.kid.clone().into_bytes()),
            ("dojot's secret", b"secret".to_vec()),
        ]
    }

    /// A key of the attacker, brought along or pointed at.
    fn keys(&self) -> Vec<Forgery> {
        let (n, e) = (encode(self.own.rsa.n().to_vec()), encode(self.own.rsa.e().to_vec()));
        let jwk = json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.own.kid, "n": n, "e": e });
        let chain = json!([encode(self.own.rsa.public_key_to_der().unwrap())]);
        let mut all = vec![self.named("a key of the attacker under our name", self.own.token(&self.claims))];
        for (member, value) in [
            ("jwk", jwk),
            ("jku", json!("http://127.0.0.1:9/jwks.json")),
            ("jku", json!("file:///dev/null")),
            ("x5u", json!("https://127.0.0.1:9/chain.pem")),
            ("x5c", chain),
            ("x5t", json!("AAAA")),
            ("kid", json!("another name")),
            ("kid", json!("")),
            ("kid", json!(null)),
            ("kid", json!(1)),
            ("kid", json!([self.own.kid])),
            ("kid", json!("../../../../../../dev/null")),
            ("kid", json!("/proc/self/environ")),
            ("kid", json!("' UNION SELECT 'a' --")),
            ("kid", json!("x' OR '1'='1")),
            ("kid", json!("|| sleep 9 ||")),
            ("kid", json!("a\0b")),
            ("kid", json!("k".repeat(5000))),
            ("kid", json!(format!("{}\0", self.own.kid))),
            ("kid", json!(self.own.kid.to_uppercase())),
        ] {
            let mut header = self.own.header();
            let class = format!("{member} {value:.40}");
            header[member] = value;
            all.push(self.named(&class, self.own.sign(&header.to_string(), &self.claims.to_string())));
        }
        let mut unnamed = self.own.header();
        unnamed.as_object_mut().unwrap().remove("kid");
        all.push(self.named("no kid", self.platform.sign(&unnamed.to_string(), &self.claims.to_string())));
        all
    }

    /// A signature that is not the one of these bytes.
    fn signatures(&self) -> Vec<Forgery> {
        let (input, signature) = self.token.rsplit_once('.').unwrap();
        let (header, claims) = input.split_once('.').unwrap();
        let rsa = &self.platform.rsa;
        let size = i32::try_from(rsa.size()).unwrap();
        let number = |number: &BigNumRef| encode(number.to_vec_padded(size).unwrap());
        let mut less = rsa.n().to_owned().unwrap();
        less.sub_word(1).unwrap();
        let of_other = self.platform.token(&self.others);
        let other_signature = of_other.rsplit('.').next().unwrap();
        let another_user = encode(json!({ "userid": 1 }).to_string());
        let mut all = vec![
            ("a missing signature", format!("{input}.")),
            ("a missing signature and its dot", input.to_owned()),
            ("one zero", format!("{input}.AA")),
            ("the number 0", format!("{input}.{}", number(&BigNum::new().unwrap()))),
            ("the number 1", format!("{input}.{}", number(&BigNum::from_u32(1).unwrap()))),
            ("the modulus", format!("{input}.{}", number(rsa.n()))),
            ("one less than the modulus", format!("{input}.{}", number(&less))),
            ("ones only", format!("{input}.{}", encode(vec![255; rsa.size() as usize]))),
            ("a shorter signature", self.token[..self.token.len() - 4].to_owned()),
            ("a longer signature", format!("{}AAAA", self.token)),
            ("a signature twice", format!("{}{signature}", self.token)),
            ("a signature of another token", format!("{input}.{other_signature}")),
            ("claims of another token", format!("{header}.{}.{signature}", encode(self.others.to_string()))),
            ("other claims", format!("{header}.{another_user}.{signature}")),
            ("another header", format!("{}.{claims}.{signature}", encode(r#"{"alg":"RS256"}"#))),
            ("the input as the signature", format!("{input}.{}", encode(input))),
        ]
        .into_iter()
        .map(|(class, token)| self.named(class, token))
        .collect::<Vec<_>>();
        // The same number, plus the modulus: as long, if it fits.
        let decoded = BigNum::from_slice(&decode(signature)).unwrap();
        let mut sum = BigNum::new().unwrap();
        sum.checked_add(&decoded, rsa.n()).unwrap();
        all.push(self.named("a signature and the modulus", format!("{input}.{}", encode(sum.to_vec()))));
        let zero_first = [&[0], decode(signature).as_slice()].concat();
        all.push(self.named("a signature after a zero", format!("{input}.{}", encode(zero_first))));
        all
    }

    /// Blocks that our key has enciphered, with a PKCS 1 padding that is not exactly the one.
    fn paddings(&self) -> Vec<Forgery> {
        const SHA256: [u8; 19] = [
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
            0x00, 0x04, 0x20,
        ];
        let (header, claims) = (self.platform.header().to_string(), self.claims.to_string());
        let digest = sha256(format!("{}.{}", encode(&header), encode(&claims)).as_bytes());
        let info = [&SHA256[..], &digest].concat();
        let size = self.platform.rsa.size() as usize;
        let block = |kind: u8, filling: u8, separator: u8, tail: &[u8]| {
            let mut block = vec![filling; size];
            block[..2].copy_from_slice(&[0, kind]);
            block[size - tail.len() - 1] = separator;
            block[size - tail.len()..].copy_from_slice(tail);
            block
        };
        let changed = |place: usize, value: u8| {
            let mut info = info.clone();
            info[place] = value;
            info
        };
        let without_null = {
            let mut info = [&SHA256[..15], &SHA256[17..], &digest].concat();
            info[1] -= 2;
            info[3] -= 2;
            info
        };
        let early = {
            let mut block = vec![0; size];
            block[..12].copy_from_slice(&[0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]);
            block[11..11 + info.len()].copy_from_slice(&info);
            block
        };
        let good = self.platform.seal(&header, &claims, &block(1, 255, 0, &info));
        assert_eq!(good, self.platform.sign(&header, &claims), "this is what a good block is");
        let long_form = [&[0x30, 0x81, 0x31][..], &info[2..]].concat();
        let trailing = [&info[..], &[0, 0]].concat();
        [
            ("block type 0", block(0, 255, 0, &info)),
            ("block type 2", block(2, 255, 0, &info)),
            ("a filling of zeros", block(1, 0, 0, &info)),
            ("a filling of others", block(1, 254, 0, &info)),
            ("no separator", block(1, 255, 255, &info)),
            ("another separator", block(1, 255, 1, &info)),
            ("an algorithm without parameters", block(1, 255, 0, &without_null)),
            ("SHA-1 as the algorithm", block(1, 255, 0, &changed(14, 0x1a))),
            ("a length in the long form", block(1, 255, 0, &long_form)),
            ("a wrong length", block(1, 255, 0, &changed(1, 0x32))),
            ("a wrong tag", block(1, 255, 0, &changed(0, 0x31))),
            ("rubbish after the digest", block(1, 255, 0, &trailing)),
            ("a short filling and rubbish after it", early),
            ("the digest alone", block(1, 255, 0, &digest)),
            ("no padding at all", [vec![0; size - 32], digest.to_vec()].concat()),
        ]
        .into_iter()
        .map(|(class, block)| {
            self.named(&format!("padding: {class}"), self.platform.seal(&header, &claims, &block))
        })
        .collect()
    }

    /// The same token in another writing.
    fn spellings(&self) -> Vec<Forgery> {
        let token = &self.token;
        let parts: Vec<&str> = token.split('.').collect();
        let (header, claims, signature) = (parts[0], parts[1], parts[2]);
        let nested = self
            .platform
            .sign(&json!({"alg": "RS256", "kid": self.platform.kid, "cty": "JWT"}).to_string(), token);
        let flattened = json!({ "protected": header, "payload": claims, "signature": signature });
        // 342 letters say 2052 bits of which 2048 count.
        let last = signature.chars().last().unwrap();
        let next = char::from_u32(u32::from(last) + 1).unwrap();
        let malleable = format!("{}{next}", &token[..token.len() - 1]);
        let standard = format!("{header}.{claims}.{}", signature.replace('-', "+").replace('_', "/"));
        let mut all = vec![
            ("dots", "..".to_owned()),
            ("one word", "token".to_owned()),
            ("a missing header", format!(".{claims}.{signature}")),
            ("missing claims", format!("{header}..{signature}")),
            ("an empty part more", format!("{token}.")),
            ("a part more", format!("{token}.{signature}")),
            ("five parts", format!("{header}.{claims}.{signature}.AAAA.AAAA")),
            ("spaces for dots", format!("{header} {claims} {signature}")),
            ("commas for dots", format!("{header},{claims},{signature}")),
            ("JSON serialization", flattened.to_string()),
            ("a nested token", nested),
            ("padding of base64", format!("{token}==")),
            ("padding within", format!("{header}=.{claims}.{signature}")),
            ("a space within", format!("{header}. {claims}.{signature}")),
            ("a line within", format!("{header}.\n{claims}.{signature}")),
            ("a NUL within", format!("{header}.\0{claims}.{signature}")),
            ("percent signs", token.replace('.', "%2e")),
            ("quotes", format!("\"{token}\"")),
            ("two tokens", format!("{token}, {token}")),
            ("Bearer twice", format!("Bearer {token}")),
            ("9 KB", format!("{header}.{claims}.{}", "A".repeat(9000))),
            ("500 KB", format!("{header}.{}.{signature}", "A".repeat(500_000))),
            (
                "dojot's internal token",
                "bW9kZWw=.eyJ1c2VybmFtZSI6ICJkZXZpY2UtbWFuYWdlciIsICJzZXJ2aWNlIjogImFkbWluIn0=.c2lnbmF0dXJl"
                    .to_owned(),
            ),
        ];
        if standard != *token {
            all.push(("the other alphabet", standard));
        }
        if next.is_ascii_alphanumeric() && "AEIMQUYcgkosw048".contains(last) {
            all.push(("bits behind the last byte", malleable));
        }
        for (class, header) in [
            ("alg twice", format!(r#"{{"alg":"none","alg":"RS256","kid":"{}"}}"#, self.platform.kid)),
            ("kid twice", format!(r#"{{"alg":"RS256","kid":"x","kid":"{}"}}"#, self.platform.kid)),
            ("a header that is a list", "[]".to_owned()),
            ("a header that is a text", r#""RS256""#.to_owned()),
            ("a header after a mark", format!("\u{feff}{}", self.platform.header())),
            (
                "critical extensions",
                json!({"alg": "RS256", "kid": self.platform.kid, "crit": ["exp"]}).to_string(),
            ),
            (
                "claims in the clear",
                json!({"alg": "RS256", "kid": self.platform.kid, "b64": false, "crit": ["b64"]}).to_string(),
            ),
            (
                "a deep header",
                format!(
                    r#"{{"alg":"RS256","kid":"{}","x":{}1{}}}"#,
                    self.platform.kid,
                    "[".repeat(1500),
                    "]".repeat(1500)
                ),
            ),
        ] {
            all.push((class, self.platform.sign(&header, &self.claims.to_string())));
        }
        all.into_iter().map(|(class, token)| self.named(class, token)).collect()
    }

    /// What our own key would have to sign for it to matter, and still is no good.
    fn claims(&self) -> Vec<Forgery> {
        let now = self.claims["iat"].as_i64().unwrap();
        let mut all = Vec::new();
        for (name, values) in [
            (
                "exp",
                vec![
                    json!(null),
                    json!("2099-01-01"),
                    json!(now.to_string()),
                    json!(0),
                    json!(-1),
                    json!(now - 1),
                    json!(1e300),
                    json!(u64::MAX),
                ],
            ),
            (
                "iss",
                vec![
                    json!(null),
                    json!(""),
                    json!("nokey"),
                    json!([self.claims["iss"]]),
                    self.others["iss"].clone(),
                    json!(self.claims["iss"].as_str().unwrap().to_uppercase()),
                ],
            ),
            (
                "service",
                vec![
                    json!(null),
                    json!(""),
                    json!("ADMIN"),
                    json!("admin "),
                    json!("admin\0"),
                    json!("dojot-management"),
                    json!(["admin"]),
                    self.others["service"].clone(),
                ],
            ),
            (
                "userid",
                vec![
                    json!(null),
                    json!("1"),
                    json!(1.5),
                    json!(0),
                    json!(-1),
                    json!(i64::MAX),
                    json!([1]),
                    self.others["userid"].clone(),
                ],
            ),
            ("nbf", vec![json!(now + 3600), json!("later"), json!(null), json!(i64::MAX)]),
            ("iat", vec![json!(null), json!("now")]),
            ("username", vec![json!(null), json!(7)]),
            ("groups", vec![json!(null), json!("admin"), json!(["admin"])]),
        ] {
            for value in values {
                let mut claims = self.claims.clone();
                let class = format!("{name} {value}");
                claims[name] = value;
                all.push(self.named(&class, self.platform.token(&claims)));
            }
            let mut claims = self.claims.clone();
            if claims.as_object_mut().unwrap().remove(name).is_some() {
                all.push(self.named(&format!("no {name}"), self.platform.token(&claims)));
            }
        }
        let header = self.platform.header().to_string();
        let genuine = self.claims.to_string();
        let after = |more: &str| format!("{},{more}}}", genuine.strip_suffix('}').unwrap());
        for (class, claims) in [
            ("userid twice", after(r#""userid":1"#)),
            ("exp twice", after(r#""exp":9999999999"#)),
            ("service twice", after(r#""service":"admin""#)),
            ("no JSON", "claims".to_owned()),
            ("a list", "[]".to_owned()),
            ("nothing", String::new()),
            ("a text", r#""admin""#.to_owned()),
            ("more after the end", format!("{genuine}{genuine}")),
            ("not UTF-8", genuine.replace("admin", "\u{80}")),
        ] {
            all.push(self.named(&format!("claims: {class}"), self.platform.sign(&header, &claims)));
        }
        all
    }
}

fn decode(part: &str) -> Vec<u8> {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_in_one_way_only() {
    let stack = Stack::start(Kind::Embedded).await;
    let Api { token, .. } = stack.admin().await;
    for (headers, path, expected) in [
        (format!("Authorization: Bearer {token}\r\n"), "/device", 200),
        (format!("Authorization: bearer {token}\r\n"), "/device", 200),
        (format!("Authorization: {token}\r\n"), "/device", 401),
        (format!("Authorization: Basic {token}\r\n"), "/device", 401),
        (format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n"), "/device", 401),
        (format!("Authorization: Bearer x\r\nAuthorization: Bearer {token}\r\n"), "/device", 401),
        (format!("Cookie: jwt={token}\r\n"), "/device", 401),
        (format!("X-Authorization: Bearer {token}\r\n"), "/device", 401),
        (format!("Proxy-Authorization: Bearer {token}\r\n"), "/device", 401),
        (String::new(), &format!("/device?jwt={token}"), 401),
        (String::new(), &format!("/device?access_token={token}"), 401),
    ] {
        let (status, body) = request(stack.gateway, "GET", path, &headers).await;
        assert_eq!(status, expected, "{headers:.40} {path:.30}: {body}");
    }
}
